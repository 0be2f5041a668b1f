"""The web process: what others post to Handfast. So far, the results of work that a tool left pending."""
