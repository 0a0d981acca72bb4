"""The figures of test/bench/compare beside each other: ratios, the goals they are held to, JSON, a plot."""
import json
import math

from rows import BY_KEY

# The filesystems that efs elsewhere is held against: the better of them in each row.
PEERS = ["gluster", "gluster-tuned", "moosefs", "moosefs-tuned"]
# What efs at the owner is held against: likewise.
MIRRORS = ["mirror", "mirror-threads"]
FLUSHES = 0.5  # disk flushes an fsync: with fewer it did not flush
GOALS = {"meta": 1.2, "data": 1.1, "cached": 0.9}
MEAN_GOALS = {"meta": 3.0, "data": 1.3}
OF_EXT4 = 0.6    # of ext4's rate of fsyncs
OF_OWNER = 0.9   # of the owner's own, in what leases serve
LEASED = ["stat_warm", "small_read_warm", "ls_f_warm", "ls_l_warm", "git_status_warm"]


def times(row, ours, theirs):
    """How many times as fast: None where one is missing."""
    if not ours or not theirs:
        return None
    return theirs / ours if row.unit == "s" else ours / theirs


def flushed(results, key, system):
    """Whether the system flushes the disk where the row asks for it; True for rows that do not ask. One that did not in
    any row that asks does not in others: the flushes counted there were another program's."""
    if not BY_KEY[key].flushes:
        return True
    counts = [results.flushes_each(at, system) for at in results.flushes]
    return all(count is None or count >= FLUSHES for count in counts)


def best(results, key, among):
    """The fastest of some systems that flushes where the row asks for it, or None."""
    found = None
    for system in among:
        value = results.median(key, system)
        if value is None or not flushed(results, key, system):
            continue
        if found is None or times(BY_KEY[key], value, results.median(key, found)) > 1:
            found = system
    return found


def mean(values):
    values = [value for value in values if value]
    return math.exp(sum(math.log(value) for value in values) / len(values)) if values else None


def compared(results):
    """A dict a row: owner (times the better mirror), of_ext4, elsewhere (times the best peer), of_owner, missed goals."""
    found = {}
    for key in results.wanted:
        row = BY_KEY[key]
        value = lambda system, key=key: results.median(key, system) if system else None
        mirror, peer = best(results, key, MIRRORS), best(results, key, PEERS)
        one = {"mirror": mirror, "owner": times(row, value("efs"), value(mirror)), "of_ext4": times(row, value("efs"), value("ext4")),
               "peer": peer, "elsewhere": times(row, value("efs-elsewhere"), value(peer)),
               "of_owner": times(row, value("efs-elsewhere"), value("efs")), "missed": []}
        one["missed"] += missed(row, one, flushed(results, key, "efs"), flushed(results, key, "efs-elsewhere"))
        found[key] = one
    return found


def missed(row, one, owner_flushed, elsewhere_flushed):
    def below(what, ratio, goal):
        return [f"{what} {ratio:.2f} < {goal}"] if ratio is not None and ratio < goal else []

    found = below("owner", one["owner"], row.goal) + below("elsewhere", one["elsewhere"], GOALS[row.kind])
    if row.key == "append_fsync":
        found += below("of ext4", one["of_ext4"], OF_EXT4)
    if row.key in LEASED:
        found += below("of the owner's", one["of_owner"], OF_OWNER)
    if not owner_flushed or not elsewhere_flushed:
        found.append("efs does not flush")
    return found


def means(found):
    """The geometric means elsewhere, with what they must be: [(rows, value, goal)]. What the kernel's cache serves
    counts, and is left out once more to be seen apart: there nobody can be much better than another."""
    lines = []
    for kind, goal in MEAN_GOALS.items():
        cached = {key for key in found if BY_KEY[key].kind == "cached" and (key == "read_warm") == (kind == "data")}
        own = {key for key in found if BY_KEY[key].kind == kind}
        for what, keys, held_to in ((kind, own | cached, goal), (f"{kind}, but for what the kernel's cache serves", own, None)):
            value = mean(found[key]["elsewhere"] for key in keys)
            if value is not None:
                lines.append((what, value, held_to))
    return lines


def number(value):
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}" if value >= 0.1 else f"{value:.3f}"


def table(results, names):
    found = compared(results)
    heads = ["row", ""] + names + ["owner/mirror", "elsewhere/best", "missed"]
    lines = [heads]
    for key in results.wanted:
        row, one = BY_KEY[key], found[key]
        cells = [row.label, row.unit]
        for system in names:
            mark = "" if flushed(results, key, system) else "*"
            cells.append(number(results.median(key, system)) + mark)
        cells.append("-" if one["owner"] is None else f"{one['owner']:.2f}")
        cells.append("-" if one["elsewhere"] is None else f"{one['elsewhere']:.2f} {one['peer']}")
        cells.append("; ".join(one["missed"]))
        lines.append(cells)
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    left = (0, 1, len(heads) - 2, len(heads) - 1)
    text = [" ".join(cell.ljust(width) if i in left else cell.rjust(width)
                     for i, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines]
    text += summary(results, names, found)
    return "\n".join(text)


def summary(results, names, found):
    text = ["", "Rates: more is better; s: less. owner/mirror, elsewhere/best: times as fast."]
    if any(not flushed(results, key, system) for key in results.wanted for system in names if results.median(key, system)):
        text.append("* did not flush the disk when asked to (fsync)")
    for key in results.wanted:
        counts = [(system, results.flushes_each(key, system)) for system in names]
        shown = ", ".join(f"{system} {count:.1f}" for system, count in counts if count is not None)
        if shown:
            text.append(f"disk flushes, {BY_KEY[key].label}: {shown}"
                        + ("" if key in ("append_fsync", "sqlite") else " in all"))
    for what, value, goal in means(found):
        text.append(f"elsewhere, geometric mean, {what}: {value:.2f}" + (f" (goal {goal})" if goal else "")
                    + (" MISSED" if goal and value < goal else ""))
    return text


def as_json(results, names, about):
    found = compared(results)
    return {**about, "systems": names,
            "rows": {key: {"label": BY_KEY[key].label, "unit": BY_KEY[key].unit, "kind": BY_KEY[key].kind,
                           "runs": results.values[key], "flushes": results.flushes[key],
                           "median": {system: results.median(key, system) for system in names}, **found[key]}
                     for key in results.wanted},
            "means": [{"rows": what, "value": value, "goal": goal} for what, value, goal in means(found)],
            "failures": results.failures}


def write_json(path, what):
    with open(path, "w") as file:
        json.dump(what, file, indent=1)
        file.write("\n")


COLOURS = {"ext4": "#999999", "efs": "#0b5394", "efs-elsewhere": "#0b5394", "gluster": "#f6b26b", "gluster-tuned": "#b45f06",
           "moosefs": "#93c47d", "moosefs-tuned": "#38761d", "sshfs": "#c27ba0"}


def panel(axes, what, names, title):
    """A bar for each row and system, from the mirror's line to how many times as fast it is."""
    keys = [key for key in what["rows"] if what["rows"][key]["mirror"]]
    height = 0.84 / len(names)
    for place, name in enumerate(names):
        for at, key in enumerate(keys):
            median = what["rows"][key]["median"]
            ratio = times(BY_KEY[key], median.get(name), median[what["rows"][key]["mirror"]])
            if ratio:
                axes.barh(at + (place + 0.5) * height, ratio - 1, height, left=1, color=COLOURS.get(name),
                          label=name if at == 0 else None)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_ylim(len(keys), 0)
    axes.set_yticks([at + 0.42 for at in range(len(keys))], [BY_KEY[key].label for key in keys])
    axes.set_title(title)
    axes.set_xlabel("times as fast as a FUSE mirror of ext4")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower left", fontsize="small")


def plot(path, what):
    """Beside each other: at the owner, and one peer away."""
    import matplotlib  # pylint: disable=import-outside-toplevel
    matplotlib.use("Agg")
    from matplotlib import pyplot  # pylint: disable=import-outside-toplevel
    near = [name for name in ("ext4", "efs") if name in what["systems"]]
    far = [name for name in what["systems"] if name not in ("ext4", "efs", *MIRRORS)]
    panels = [(names, title) for names, title in ((near, "at the owner"), (far, "one peer away")) if names]
    size = (6 * len(panels) + 2, 0.09 * len(what["rows"]) * (max(len(near), len(far)) + 1) + 1.6)
    figure, axes = pyplot.subplots(1, len(panels), figsize=size, squeeze=False, sharey=True)
    for at, (names, title) in zip(axes[0], panels):
        panel(at, what, names, title)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
