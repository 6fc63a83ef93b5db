"""In front of a model: every image of a conversation is judged before the engine is asked."""
