"""What PiCloud measures, one file a question; each runs alone (`python -m benchmarks.bench_append`) and says what it compares with what.

Identical measurements drift by a factor of two on a shared machine, so everything that is compared is measured in one run, in turns (A B A B), and only medians
and ratios count. A benchmark checks its results before it prints a number.
"""
