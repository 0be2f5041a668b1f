"""The web process: what others post to Holdfast. So far, the results of work that a tool left pending."""
