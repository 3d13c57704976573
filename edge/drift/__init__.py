"""The running release against what was signed, and putting it back."""
