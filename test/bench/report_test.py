"""What the table of test/bench/compare says of figures that are known: ratios, goals, who counts as the best peer."""
import os
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import report  # noqa: E402  pylint: disable=wrong-import-position
import rows  # noqa: E402  pylint: disable=wrong-import-position
import systems  # noqa: E402  pylint: disable=wrong-import-position


def results(figures):
    """Of {row: {system: value, or (value, flushes)}}."""
    made = rows.Results(list(figures))
    for key, values in figures.items():
        for system, value in values.items():
            made.add(system, {key: value if isinstance(value, tuple) else (value, None)})
    return made


class Report(unittest.TestCase):
    def test_rates_and_seconds_both_say_times_as_fast(self):
        found = report.compared(results({"create": {"mirror": 100, "efs": 150}, "untar": {"mirror": 3.0, "efs": 2.0}}))
        self.assertAlmostEqual(found["create"]["owner"], 1.5)
        self.assertAlmostEqual(found["untar"]["owner"], 1.5)
        self.assertEqual(found["create"]["missed"] + found["untar"]["missed"], [])

    def test_efs_is_held_against_the_better_mirror(self):
        found = report.compared(results({"create": {"mirror": 100, "mirror-threads": 50, "efs": 150},
                                         "untar": {"mirror": 3.0, "mirror-threads": 2.0, "efs": 1.0}}))
        self.assertEqual((found["create"]["mirror"], found["create"]["owner"]), ("mirror", 1.5))
        self.assertEqual((found["untar"]["mirror"], found["untar"]["owner"]), ("mirror-threads", 2))

    def test_each_goal_is_missed_just_below_it(self):
        for key, goal in (("create", 1.2), ("untar", 1.3), ("small_read_warm", 2.0), ("mkdir", 0.9)):
            value = lambda ratio, key=key: 100 / ratio if rows.BY_KEY[key].unit == "s" else 100 * ratio
            for ratio, count in ((goal * 0.99, 1), (goal * 1.01, 0)):
                found = report.compared(results({key: {"mirror": 100, "efs": value(ratio)}}))
                self.assertEqual(len(found[key]["missed"]), count, (key, ratio))

    def test_the_best_peer_is_the_fastest_that_flushes(self):
        found = report.compared(results({
            "append_fsync": {"efs-elsewhere": (100, 1.0), "moosefs": (900, 0.0), "gluster": (50, 1.0)},
            "write": {"efs-elsewhere": (100, 2.0), "moosefs": (900, 7.0), "gluster": (80, 1.0)},
            "sqlite": {"efs-elsewhere": (100, 4.0), "moosefs": (900, 2.0), "gluster": (70, 4.0)},
            "rmdir": {"efs-elsewhere": 100, "moosefs": 50, "gluster": 40}, "du": {"efs-elsewhere": 1, "moosefs": 3, "gluster": 2}}))
        self.assertEqual(found["append_fsync"]["peer"], "gluster")
        for key in ("write", "sqlite"):  # another program's flushes are not MooseFS's
            self.assertEqual(found[key]["peer"], "gluster")
        self.assertEqual((found["rmdir"]["peer"], found["rmdir"]["elsewhere"]), ("moosefs", 2))
        self.assertEqual((found["du"]["peer"], found["du"]["elsewhere"]), ("gluster", 2))

    def test_efs_that_does_not_flush_is_told(self):
        found = report.compared(results({"append_fsync": {"efs": (100, 0.0), "mirror": (50, 1.0), "ext4": (100, 1.0)}}))
        self.assertEqual(found["append_fsync"]["missed"], ["efs does not flush"])

    def test_leased_rows_are_held_to_the_owners(self):
        found = report.compared(results({"stat_warm": {"efs": 100, "efs-elsewhere": 80}, "mkdir": {"efs": 100, "efs-elsewhere": 10}}))
        self.assertEqual(found["stat_warm"]["missed"], ["of the owner's 0.80 < 0.9"])
        self.assertEqual(found["mkdir"]["missed"], [])

    def test_means_are_geometric_and_with_what_the_cache_serves(self):
        figures = {"rmdir": {"efs-elsewhere": 800, "gluster": 100}, "stat_warm": {"efs-elsewhere": 200, "gluster": 100}}
        lines = report.means(report.compared(results(figures)))
        self.assertEqual([(what, round(value, 6), goal) for what, value, goal in lines],
                         [("meta", 4.0, 3.0), ("meta, but for what the kernel's cache serves", 8.0, None)])


systems.mesh.main()
