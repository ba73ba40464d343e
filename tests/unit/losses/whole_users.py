"""What whole users chose, from plain lists."""

import torch

from roomrec.batches.batch import ChosenItems


def chosen(positive, user, negative=None, log_q=None) -> ChosenItems:
    """Positives with their users, and the items offered with their rates; all items if not given."""
    return ChosenItems(
        torch.tensor(positive),
        torch.tensor(user),
        None if negative is None else torch.tensor(negative),
        None if log_q is None else torch.tensor(log_q),
    )
