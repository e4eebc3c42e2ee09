"""A hook that takes a secret for a number, and so shows it in its last words."""

import os


def number(text):
    return int(text)


number(os.environ["BUNDLE_SECRET"])
