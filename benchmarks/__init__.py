"""Speed, memory and accuracy of the library against its peers.

python -m benchmarks.run     measure, and store what was found as JSON
python -m benchmarks.page    write docs/benchmarks.md from the stored JSON
"""
