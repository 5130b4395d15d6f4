"""What trains a recogniser's network on labels: augmentation, mixing and embedding of a batch."""

from torch import Tensor

from affetto.augment import AugmentConfig, augment_waveforms, mixup, spec_augment
from affetto.augment_features import augment_spectra
from affetto.data import Batch
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.models.embedders import Network
from affetto.models.encoder import Frames
from affetto.objectives.objective import Objective, Views, new_generator


class Supervised(Objective):
    """An objective on a classifier; in training, batches are augmented and mixed before they are embedded.

    Args:
        classifier: the network to train.
        augment: what is done to waveforms, features and cached frames in training.
        reads: what the batches hold.
    """

    def __init__(self, classifier: EmotionClassifier, augment: AugmentConfig, reads: Reads) -> None:
        super().__init__()
        if not isinstance(classifier.embedder, Network) and reads != "vectors":
            raise TypeError("only networks are trained by gradient; this embedder gives fixed vectors")
        self.weights = {}
        self.classifier, self.augment, self.reads = classifier, augment, reads

    def embedded(self, batch: Batch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns vectors ``(B, D)``, and the targets ``(B, K)``, mixed as the utterances were."""
        if self.reads == "vectors":
            values, lengths, augment = batch.values, batch.lengths, self.augment
            if self.training:
                values, _, targets = mixup(values, lengths, targets, augment.mixup, new_generator())
            return values[:, 0], targets
        views, targets = self.viewed(batch, targets)
        return views.vectors, targets

    def viewed(self, batch: Batch, targets: Tensor) -> tuple[Views, Tensor]:
        """Returns the same, together with features and frames, as a single view of each utterance."""
        frames, features, lengths, targets = self._frames(batch, targets)
        assert isinstance(self.classifier.embedder, Network)
        vectors = self.classifier.embedder.pool(frames)
        return Views(vectors, frames, features, lengths, batch.index, batch.columns), targets

    def _frames(self, batch: Batch, targets: Tensor) -> tuple[Frames, Tensor, Tensor, Tensor]:
        generator = new_generator()
        values, lengths, augment = batch.values, batch.lengths, self.augment
        embedder, front_end = self.classifier.embedder, self.classifier.front_end
        if self.reads == "frames":
            if self.training:
                values = spec_augment(values, lengths, augment, generator)
                values, lengths, targets = mixup(values, lengths, targets, augment.mixup, generator)
            return self.classifier.split_layers(values, lengths), values, lengths, targets
        if self.training:
            if self.reads == "features":
                values, lengths = augment_spectra(values, lengths, augment, front_end, generator)
            else:
                values, lengths = augment_waveforms(values, lengths, augment, generator)
            values, lengths, targets = mixup(values, lengths, targets, augment.mixup, generator)
        if self.reads == "waveforms":
            values, lengths = front_end(values, lengths)
        if self.training and front_end.kind != "waveform":
            values = spec_augment(values, lengths, augment, generator)
        assert isinstance(embedder, Network)
        return embedder.encoder(values, lengths), values, lengths, targets
