"""Bundles on the Hugging Face hub; its modules need the extra `hub`."""
