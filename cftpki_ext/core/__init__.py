"""
The words that all parts speak: values, causes, errors, settings, verdicts, policy, alerts. No input or output.
"""
