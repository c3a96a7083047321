"""Robot data: one episode type, readers for the formats in use, and the writer of the Bridge/IRASim layout.

    from wfm_sim.data import open_dataset
    episodes = open_dataset("datasets/tabletop", split="train")
    episodes[0].frames, episodes[0].actions
"""
