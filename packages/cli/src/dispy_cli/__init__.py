"""The ``dispy`` program: an umbrella whose sub-commands come from plugins, and those that come with it."""
