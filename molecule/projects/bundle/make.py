"""The build: notes in a file what it saw, as a bundler would write what it made."""

import getpass
import json
import os
import sys

import markdown

if "--fail" in sys.argv:
    sys.exit("the bundler has no node")
with open("made.json", "w") as file:
    json.dump(
        {
            "user": getpass.getuser(),
            "words": sys.argv[1:],
            "environment": dict(os.environ),
            "html": markdown.markdown("*made*"),
        },
        file,
    )
