"""Names of the ways to store pairs: three profiles, two lossless encodings; free of NumPy, for help texts.

`pairs` holds both images of every pair. `clean-once` leaves the clean image to the target's own `clean` shard
of the same split and number. `delta` holds perturbations alone, for whoever has the photographs: they may be
handed on where the images may not (`impure-data rebuild` puts both together again).
"""

PAIRS = "pairs"
CLEAN_ONCE = "clean-once"
DELTA = "delta"

#: profile -> images stored of a sample in an attack's shard, and in a clean shard
PROFILES = {
    PAIRS: (("clean", "adv"), ("clean", "adv")),
    CLEAN_ONCE: (("adv",), ("clean",)),
    DELTA: (("delta",), ("delta",)),
}

PNG = "png"
WEBP = "webp"
ENCODING_NAMES = (PNG, WEBP)
