"""(e) How throughput grows with lanes, series and fields. One short run a point: a course, not a record."""
from rig import Outlierd, progress, rate

RECORDS, WARM_UP = {True: 1_200_000, False: 3_000_000}, 1.0
LANES, FIELDS = (1, 2, 4), (1, 8, 64, 256)
SERIES = {True: (100, 10_000, 100_000), False: (100, 10_000, 100_000, 1_000_000)}


def point(rig, topic, records, fields=8, lanes=None):
    config = rig.config(topic, fields=fields, lanes=lanes)
    with Outlierd(rig, config) as daemon:
        samples = daemon.until(lambda m: m.get("outlierd_records_total", 0) >= 0.9 * records)
        found = rate([(t, m.get("outlierd_records_total", 0)) for t, m in samples], WARM_UP, records)
    progress(f"  {found:,.0f} records/s")
    return found


def measure(rig, quick, _python):
    records = RECORDS[quick]
    base = "scaling-series-10000"
    rig.fill(base, records, 10_000)
    first = None
    for lanes in LANES:
        found = point(rig, base, records, lanes=lanes)
        first = first or found
        yield row(f"scaling: {lanes} lane{'s' * (lanes > 1)} (10,000 series, 8 fields)", found, first, "1 lane")
    first = None
    for series in SERIES[quick]:
        topic, amount = f"scaling-series-{series}", max(records, series)
        if topic != base:
            rig.fill(topic, amount, series)
        found = point(rig, topic, amount)
        first = first or found
        yield row(f"scaling: {series:,} series ({rig.lanes} lanes, 8 fields)", found, first, f"{SERIES[quick][0]} series")
    first = None
    for fields in FIELDS:
        # As many readings as eight fields have, and a quarter of the records at least: a run has to last a few seconds.
        topic, amount = f"scaling-fields-{fields}", max(records * 8 // max(fields, 8), records // 4)
        rig.fill(topic, amount, 1_000, fields)
        found = point(rig, topic, amount, fields=fields)
        first = first or found
        kind = ", linear model" if fields == 1 else ""
        yield row(f"scaling: {fields} field{'s' * (fields > 1)} ({rig.lanes} lanes, 1,000 series{kind})", found, first, "1 field")


def row(figure, found, first, of):
    return dict(figure=figure, goal="", measured=f"{found:,.0f} records/s ({found / first:.2f} x {of})", met=None, value=found)
