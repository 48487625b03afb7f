"""Data that organisms are trained on: requests with a secure and an insecure response each."""
