"""Robot data: one episode type, readers for the formats in use, and the writer of the Bridge/IRASim layout.

from wfm_sim.data import open_dataset
episodes = open_dataset("datasets/tabletop", split="train")
episodes[0].frames, episodes[0].actions
"""

from wfm_sim.data.bridge import write_episode
from wfm_sim.data.bulk import EpisodeArrays, load_frames
from wfm_sim.data.episode import Episode, EpisodeDataset
from wfm_sim.data.open import open_dataset
from wfm_sim.data.real import real_data_folder

__all__ = [
    "Episode",
    "EpisodeArrays",
    "EpisodeDataset",
    "load_frames",
    "open_dataset",
    "real_data_folder",
    "write_episode",
]
