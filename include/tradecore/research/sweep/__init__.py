"""Sweeps: any strategy over many parameter sets, in chunks that are stored whole or not at all.

`space` gives set k from its number, `evaluate` a chunk's rows, `planning` what a sweep is named by, `running` who
computes the chunks, `results` what comes out: the best through the production fold, Parquet, a page.
"""
