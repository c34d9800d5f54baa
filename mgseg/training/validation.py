"""Scores of the held-out sequences during training."""

from mgseg.model.network import MotionGuidedSTM


class Validation:
    def __init__(self, held_out, size):

        self.size = size
        self.held_out = held_out

    def __bool__(self) -> bool:
        return bool(self.held_out)

    def score(self, model: MotionGuidedSTM):
        import numpy as np

        from mgseg.data.clips import Sequences
        from mgseg.metrics import boundary_accuracy, region_similarity
        from mgseg.segmenter import Segmenter, SegmenterOptions

        out = {}
        for split, names in self.held_out:
            seqs = Sequences(split.frames_root, split.masks_root, names, single_object=True)
            for i, name in enumerate(names):
                seg = Segmenter(model, SegmenterOptions(size=self.size))
                js, fs = [], []
                for t, (frame, mask) in enumerate(seqs.read(i)):
                    if t == 0:
                        seg.start(frame, mask)
                        continue
                    pred = seg.step(frame)
                    js.append(float(np.mean(region_similarity(pred > 0, mask > 0))))
                    if t % 4 == 0:
                        fs.append(float(np.mean(boundary_accuracy(pred > 0, mask > 0))))
                out[name] = round((np.mean(js) + np.mean(fs)) / 2, 5)
        return {"score": round(float(np.mean(list(out.values()))), 5), "sequences": out}
