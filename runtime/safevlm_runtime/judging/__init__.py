"""From pixels to one verdict: frames, views, gates, policies, fusion."""
