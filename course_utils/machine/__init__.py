"""For learners with a machine of their own: what suits it (start), the hub (hub), and its models (models)."""
