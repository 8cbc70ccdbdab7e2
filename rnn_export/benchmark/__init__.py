"""How fast every form is on every runtime, side by side: `rnn-export bench`.

``lineup`` says which rows there are, ``race`` times them in turn, each in a process of its own, and ``limit`` measures
what the machine could do at best. ``grid`` goes over widths and batches and makes a ``score.Benchmark``, from which
``score_table``, ``score_page`` and ``plot`` are drawn, and which ``baseline`` compares with an older one.
"""
