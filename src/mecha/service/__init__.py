"""The service: the one place that knows the order in which a model is pulled, built, measured and published."""
