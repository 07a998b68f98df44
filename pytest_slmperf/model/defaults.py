"""Default margins and error rates, the same in a test session and in ``slmperf compare``.

Standard library only: the table of settings is imported whenever pytest loads the plugin.
"""

ALPHA = 0.01  # probability of a false alarm in a whole session
TOLERANCE = 0.01  # relative change of a metric that is never flagged
LIMIT = 0.05  # relative change of a metric that must not pass
LEAST_GAIN = 0.02  # least relative gain of throughput for which a further replica is useful
