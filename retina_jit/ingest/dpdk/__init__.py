"""Receiving from network cards and virtual devices with DPDK: its shared libraries, found at run time, called through ctypes.

Nothing of it is compiled or needed when the package is installed. The order to read it in: `library` (which DPDK), `abi`
(where its fields stand), `eal` (its environment), `selfcheck` (proof of the row), `mempool`, `port`, `receive` (the kernels),
`source` (what a worker reads from).
"""
