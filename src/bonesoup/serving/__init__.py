"""Serve a soup over HTTP: OpenAI's conventions, a preference in each request, and the mixing desk."""
