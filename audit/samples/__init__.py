"""Made-up events of a financial data platform, believable and the same for the same seed.

For the demo, the benchmarks and the tests: `sample_events` yields as many as wanted, in the order
of their time. Pure Python: nothing here knows Django or a database. All names and addresses are
invented (example.com, RFC 2606) or reserved for documentation (RFC 5737, RFC 3849).
"""

from audit.samples.people import SOURCES
from audit.samples.stream import Sample, cast_of, sample_events

__all__ = ["SOURCES", "Sample", "cast_of", "sample_events"]
