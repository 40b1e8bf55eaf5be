"""Published recipes as functions that set the fields of a configuration.

A recipe takes the data set's name and returns a configuration with every option of the run, of its
method and of its phases: the dataclasses' own defaults (`blocks`), and the recipe's values. The
settings of the small variants `:skyground` and `:tiny` stand beside each recipe. An experiment in
`configs/` calls a recipe and sets the few numbers that differ.
"""
