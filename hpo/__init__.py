"""Hyperparameter search for BERT fine-tuning: one YAML file in, a promoted champion out."""
