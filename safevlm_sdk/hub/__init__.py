"""The Hugging Face hub, as far as checkpoints and bundles need it; its modules need the extra `hub`."""
