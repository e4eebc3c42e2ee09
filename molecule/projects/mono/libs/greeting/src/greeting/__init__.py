"""A package of the same repository."""

WORDS = "from a package beside"
