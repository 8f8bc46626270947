"""Every connection's record, in batches: counts connections and their packets."""

from retina_jit import ConnRecord, subscribe
from retina_jit.app import at_end

totals = {"connections": 0, "packets": 0}


@subscribe("", deliver="batch")
def seen(conn: ConnRecord) -> None:
    totals["connections"] += len(conn)
    totals["packets"] += int(conn["orig"]["nb_pkts"].sum() + conn["resp"]["nb_pkts"].sum())


@at_end
def show(result) -> None:
    print(totals)
