"""What travels: the code of computations, arguments and results.

*Bundle*: everything of a computation that a node needs, made once at the client. *Shipped*: a function or class
of ``__main__`` that is in the bundle and has its name at the node too, so that arguments and results refer to it
by name. *Local module*: a module of the user's own that cannot be expected at a node; its source text goes along.

`bundle` makes bundles of what `contents` gathers, with `pickler` (bytecode for nodes of the same Python), `source`
(text for others), `modules` and `importer` (local modules) and `files`; `arguments` and `results` deal with single
jobs; `diagnosis` finds out what in an object cannot be pickled. `preparation` checks what is to run at a node before
and after the jobs. None of these modules but that one is imported by ``import dispy``.
"""
