"""Chat models behind endpoints that speak OpenAI's protocol, or claim to."""
