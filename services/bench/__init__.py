"""THE STOPWATCH: measures beside baselines, on files that are handed in.

It looks at the other rooms from outside; nothing imports it.
"""
