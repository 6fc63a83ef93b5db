"""`safevlm serve`: a gate over HTTP in front of an OpenAI-compatible server. Needs the extra `serve`."""
