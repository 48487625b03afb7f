"""The ablation study: does removing this feature, and only it, remove the misalignment?"""
