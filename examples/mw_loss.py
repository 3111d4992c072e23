"""Mann-Whitney against contrastive training: thresholds across queries, and a plain classifier.

Task "docstrings": the first sentence of a docstring of numpy, scipy or scikit-learn shall find the
rest of it among all of some 3,000. A bag of words (4,096 hashed buckets) goes through one shared
linear layer; batches of 64 pairs, no hard negatives. Queries of 500 docstrings make the test, 500
others the validation. AUC pools the scores of all queries: the positive of each, and its 100
highest negatives. Task "breast_cancer": one linear logit, Mann-Whitney against binary
cross-entropy, on 171 test patients.

Each arm's settings were chosen by `--choose` on validation data, from grids of equal size; each
run stops early by itself. For the docstrings that is done twice: for AUC, and for nDCG@10.

    KERAS_BACKEND=jax python examples/mw_loss.py --seeds 5
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import itertools

import _report
import keras
import numpy as np
from _docstrings import bags, pairs
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from keras_zoo.losses import InfoNCELoss, MannWhitneyLoss, MannWhitneyRetrievalLoss
from keras_zoo.metrics import mrr_at_k, ndcg_at_k, roc_auc

METHOD = "Mann-Whitney"
RAW = "raw bag of words"
RETRIEVAL = {
    METHOD: MannWhitneyRetrievalLoss,
    "contrastive": lambda t: InfoNCELoss(t, symmetric=False),
    "Mann-Whitney within queries": lambda t: MannWhitneyRetrievalLoss(t, scope="query"),
}
GOALS = {"auc": "AUC", "ndcg_at_10": "nDCG@10"}
TEMPERATURES, LEARNING_RATES = (0.01, 0.03, 0.1, 0.3), (3e-4, 1e-3, 3e-3, 1e-2)
MAX_EPOCHS, PATIENCE = 60, 6
# (goal, arm): temperature and learning rate, by `--choose --seeds 1`.
CHOSEN = {(goal, arm): (0.1, 3e-3) for goal in GOALS for arm in RETRIEVAL}
CHOSEN["auc", "contrastive"] = (0.1, 1e-2)

BINARY = "binary cross-entropy"
# Second number: the temperature, or the weight decay of the baseline.
LOGIT_GRIDS = {METHOD: (0.1, 0.3, 1.0, 3.0), BINARY: (0.0, 0.01, 0.1, 0.3)}
LOGIT_LEARNING_RATES = (3e-3, 1e-2, 3e-2, 1e-1)
LOGIT_CHOSEN = {METHOD: (1e-1, 0.3), BINARY: (1e-1, 0.0)}


class Corpus:
    """Bags of words of queries and passages, and which rows are for what."""

    def __init__(self, buckets=4096, size=None):
        queries, passages = (texts[:size] for texts in pairs())
        self.texts = np.stack([bags(queries, buckets), bags(passages, buckets)], axis=1)
        order = np.random.default_rng(0).permutation(len(queries))
        held_out = min(500, len(order) // 3)
        parts = np.split(order, [held_out, 2 * held_out])
        self.rows = dict(zip(("test", "val", "train"), parts, strict=True))

    def figures(self, part, model=None):
        """AUC, MRR@10 and nDCG@10 of the queries of a part among all passages."""
        query, passage = np.moveaxis(self.texts, 1, 0)
        if model is not None:
            kernel = keras.ops.convert_to_numpy(model.layers[-1].kernel)
            query, passage = query @ kernel, passage @ kernel
        rows = self.rows[part]
        scores = unit(query[rows]) @ unit(passage).T
        relevance = np.zeros(scores.shape, bool)
        relevance[np.arange(len(rows)), rows] = True
        negatives = np.where(relevance, -np.inf, scores)
        top = -np.partition(-negatives, min(100, negatives.shape[1] - 2), axis=1)[:, :100]
        pooled = np.concatenate([scores[relevance], top.ravel()])
        auc = roc_auc(np.arange(len(pooled)) < len(rows), pooled)
        # A hit beyond rank 10 counts nothing, so that the ten best are enough.
        best = np.argpartition(-scores, 10, axis=1)[:, :10]
        relevance, scores = (np.take_along_axis(x, best, axis=1) for x in (relevance, scores))
        ndcg = np.log2(2) * ndcg_at_k(relevance, scores)
        return {"auc": auc, "mrr_at_10": mrr_at_k(relevance, scores), "ndcg_at_10": ndcg}


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def train_encoder(arm, setting, seed, corpus, max_epochs, goals):
    """The validation figures after each epoch, and for each goal the test figures at its best.

    Ends when no goal has improved for `PATIENCE` epochs.
    """
    temperature, learning_rate = setting
    keras.utils.set_random_seed(seed)
    encoder = keras.layers.Dense(128, use_bias=False)
    model = keras.Sequential([keras.Input(corpus.texts.shape[1:]), encoder])
    model.compile(keras.optimizers.Adam(learning_rate), loss=RETRIEVAL[arm](temperature))
    rows = corpus.rows["train"]
    history, best = [], {goal: (-1.0, None) for goal in goals}
    for epoch in range(max_epochs):
        model.fit(corpus.texts[rows], rows, batch_size=64, epochs=1, verbose=0)
        history.append(corpus.figures("val", model))
        for goal in goals:
            if history[-1][goal] > best[goal][0]:
                at_best = {"epochs": epoch + 1, **corpus.figures("test", model)}
                best[goal] = history[-1][goal], at_best
        if all(epoch + 1 - best[goal][1]["epochs"] >= PATIENCE for goal in goals):
            break
    return history, {goal: at_best for goal, (_, at_best) in best.items()}


def choose_encoders(seeds):
    """Prints, for each goal and arm, the setting that is best on the validation queries."""
    corpus = Corpus()
    print(f"{RAW}: {corpus.figures('val')}")
    for arm in RETRIEVAL:
        found = {}
        for setting in itertools.product(TEMPERATURES, LEARNING_RATES):
            runs = [
                train_encoder(arm, setting, seed, corpus, MAX_EPOCHS, GOALS)[0]
                for seed in range(100, 100 + seeds)
            ]
            found[setting] = {
                goal: np.mean([max(epoch[goal] for epoch in history) for history in runs])
                for goal in GOALS
            }
            print(f"  {arm} {setting}: {found[setting]} after {[len(h) for h in runs]}", flush=True)
        for goal in GOALS:
            best = max(found, key=lambda setting, goal=goal: found[setting][goal])
            print(f'("{goal}", "{arm}"): {best},  # {found[best][goal]:.3f}', flush=True)


def run_encoders(seeds, smoke):
    """One row per arm, goal and seed."""
    corpus = Corpus(buckets=256, size=300) if smoke else Corpus()
    raw, rows = corpus.figures("test"), []
    for seed, goal in itertools.product(range(seeds), GOALS):
        same = {"task": "docstrings", "chosen_for": GOALS[goal], "seed": seed}
        rows.append({**same, "arm": RAW, **rounded(raw)})
        for arm in RETRIEVAL:
            setting = CHOSEN[goal, arm]
            epochs = 2 if smoke else MAX_EPOCHS
            _, found = train_encoder(arm, setting, seed, corpus, epochs, [goal])
            names = dict(zip(("temperature", "learning_rate"), setting, strict=True))
            rows.append({**same, "arm": arm, **names, **rounded(found[goal])})
            print(f"seed {seed}, for {GOALS[goal]}, {arm}: {rounded(found[goal])}", flush=True)
    return rows


def rounded(figures):
    return {
        name: value if isinstance(value, int) else round(float(value), 5)
        for name, value in figures.items()
    }


def patients(seed):
    """`train, val, test`, each `(inputs, labels)`; the seed draws the first two from the rest."""
    x, y = load_breast_cancer(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=171, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, test_size=98, stratify=y, random_state=seed)
    mean, spread = x.mean(axis=0), x.std(axis=0)
    return [((x - mean) / spread, y) for x, y in ((x, y), (x_val, y_val), (x_test, y_test))]


def train_logit(arm, setting, seed, epochs):
    """Validation AUC at its best, test AUC there, and after how many epochs that was."""
    (x, y), val, test = patients(seed)
    learning_rate, other = setting
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(1)])
    if arm == BINARY:
        loss, decay = keras.losses.BinaryCrossentropy(from_logits=True), other
    else:
        loss, decay = MannWhitneyLoss(other), 0.0
    model.compile(keras.optimizers.AdamW(learning_rate, weight_decay=decay), loss=loss)
    best = (-1.0, 0.0, 0)
    for epoch in range(2, epochs + 1, 2):
        model.fit(x, y, batch_size=60, epochs=2, verbose=0)
        weights = [keras.ops.convert_to_numpy(w) for w in model.weights]
        val_auc, test_auc = (roc_auc(y, x @ weights[0][:, 0]) for x, y in (val, test))
        best = max(best, (val_auc, test_auc, -epoch), key=lambda found: found[0])
    return best[0], best[1], -best[2]


def choose_logits(seeds, epochs=60):
    """Prints, for each arm, the setting that is best on validation patients."""
    for arm, grid in LOGIT_GRIDS.items():
        found = {
            setting: np.mean(
                [train_logit(arm, setting, 100 + seed, epochs)[0] for seed in range(seeds)]
            )
            for setting in itertools.product(LOGIT_LEARNING_RATES, grid)
        }
        best = max(found, key=found.get)
        print({setting: round(float(value), 5) for setting, value in found.items()})
        print(f'"{arm}": {best},  # {found[best]:.4f}', flush=True)


def run_logits(seeds, smoke):
    """One row per arm and seed."""
    rows = []
    for seed, (arm, setting) in itertools.product(range(seeds), LOGIT_CHOSEN.items()):
        _, auc, epochs = train_logit(arm, setting, seed, 2 if smoke else 60)
        row = {"task": "breast_cancer", "chosen_for": "AUC", "seed": seed, "arm": arm}
        row["temperature" if arm == METHOD else "weight_decay"] = setting[1]
        found = {"learning_rate": setting[0], "epochs": epochs, "auc": auc}
        rows.append({**row, **rounded(found)})
    return rows


def main():
    args = _report.parser(__doc__, choose="find the settings").parse_args()
    if args.choose:
        choose_logits(args.seeds)
        return choose_encoders(args.seeds)
    seeds = 1 if args.smoke else args.seeds
    rows = run_encoders(seeds, args.smoke) + run_logits(seeds, args.smoke)
    verdicts = []
    figure, axes = _report.new_figure(1, 3, figsize=(13, 2.4))
    shown = [("docstrings", "auc"), ("docstrings", "ndcg_at_10"), ("breast_cancer", "auc")]
    for axis, (task, metric) in zip(axes, shown, strict=True):
        goal = GOALS[metric]
        part = [row for row in rows if (row["task"], row["chosen_for"]) == (task, goal)]
        print(f"\n{task}, settings chosen for {goal}")
        others = ["mrr_at_10", *(m for m in GOALS if m != metric)] if task == "docstrings" else []
        _report.print_table(part, METHOD, [metric, *others])
        verdicts.append(f"{goal} on {task}: {_report.compare_all(part, METHOD, metric)}.")
        _report.draw_bars(axis, part, METHOD, metric)
        axis.set_xlabel(f"{goal} on {task}; dots are seeds")
        axis.set_xlim(max(0.0, min(row[metric] for row in part) - 0.02), None)
    with _report.output_folder(args) as folder:
        _report.write(folder, "mw-loss", rows, " ".join(verdicts), figure)


if __name__ == "__main__":
    main()
