"""Public tools for tests: a whole network in one process, on a fake clock, from one seed.

`clock.FakeClock`, `network.MemoryNetwork`, `security.MemorySecurity` and `impairment.Impairment` are the parts;
`simulation.SimulatedNetwork` is a directory, mixnodes, providers and clients made of them; `contracts` has suites for
the interfaces of `nymtw.interfaces`; `pytest_plugin` prints the seed of a test that failed.
"""
