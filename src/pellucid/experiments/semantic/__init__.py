"""The experiments of demijolla2020 run again: explanations in features that people understand, with known truth."""
