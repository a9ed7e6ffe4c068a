"""The page in the browser and its HTTP API (the extra `web`): upload, queue, deblur, download."""
