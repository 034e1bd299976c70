"""The texts behind `structnet.storage.columns`: of columns that mean the same wherever they are, and of the others."""

from __future__ import annotations

# What a column means in every table that has no text of its own for it.
COMMON: dict[str, str] = {
    "experiment": "Name of the experiment. It comes from the folder of the part and belongs to every key.",
    "trial": "Which of the repetitions, settings or blocks of the experiment; empty for a plain run.",
    "network": "Name of the network within the experiment.",
    "rng_seed": "The number that starts the random generators.",
    "error": "Why it failed, in one line. Null where it did not.",
    "seconds": "Time it took, by the clock.",
    "architecture": "Units of each group, the input first and the output last; of a group of feature maps the maps.",
    "sides": "Height and width of the maps of each group, 1 and 1 of plain ones. Null where all groups are plain.",
    "window": "Height and width of the window of taps. Null where all groups are plain.",
    "flat": "Numbers of the groups whose maps are read position by position. Null where all groups are plain.",
    "parameters": "Connections that exist and biases of the units that exist.",
    "connections": "Connections that exist; of feature maps taps.",
    "bytes": "Bytes of the smallest exported form in float32, indices included. Null in rows of before it was "
    "counted.",
    "macs": "Multiply-adds of one image: connections times the positions at which each is used. Null in rows of "
    "before it was counted.",
    "steps": "Optimizer steps along the way to this network.",
    "steps_all": "Optimizer steps of everything: forks, controls and screening included.",
    "parameter_steps": "The parameter count summed over the steps along the way to this network.",
    "parameter_steps_all": "The parameter count summed over the steps of everything, forks and controls included.",
    "accuracy": "Share of validation images whose answer is right, from 0 to 1.",
    "balanced_accuracy": "Share of right answers on validation data, averaged over the classes, from 0 to 1. Null "
    "where it was not measured.",
    "majority": "Share of the commonest class in the validation data, which a constant answer gets. Null where it "
    "was not measured.",
    "loss": "Mean cross-entropy on validation data, in nats.",
    "information": "Usable information about the label on validation data, in bits. Null where it was not measured.",
    "test_accuracy": "Share of test images whose answer is right, from 0 to 1. Null for what was not kept: test is "
    "read at the end.",
    "test_loss": "Mean cross-entropy on test data, in nats. Null for what was not kept.",
    "snapshot": "Where its snapshot lies, without an ending. Null where none was written.",
    "site": "Where in the network, in words.",
    "truth": "Number of the class that is right.",
    "said": "Number of the class that the network said.",
    "truth_name": "Name of the class that is right.",
    "said_name": "Name of the class that the network said.",
}

# Where the connections of the input lie.
_RATIOS = {
    "centre_ratio": "Mean connections of a pixel in the central half of each side, divided by those of all pixels. "
    "Null for commands other than topology.",
    "core_centre_ratio": "As centre_ratio, of the connections that an evolution leaves in place.",
    "ring_ratio": "Mean connections of a pixel in the outer ring of three pixels, divided by those of all pixels. "
    "Null for commands other than topology.",
    "core_ring_ratio": "As ring_ratio, of the connections that an evolution leaves in place.",
}

_EXPERIMENTS = {
    "input_names": "Of a table, what each number of an input is, in their order. Null for pictures, and in rows of "
    "before it was kept.",
    "command": "The command, such as grow or hunt.",
    "dataset": "The dataset as it was given: its name or a path.",
    "status": "running, finished, failed or interrupted.",
    "started_at": "When it began first, in UTC.",
    "heartbeat_at": "When it was last known to be alive, in UTC.",
    "finished_at": "When it ended, in UTC. Null while it runs.",
    "seconds": "Time of work, over all resumes.",
    "config": "The options, as JSON.",
    "versions": "Versions of Python and of the libraries that matter, as JSON.",
    "data_fingerprint": "Hashes of the data that it learns from, as JSON. Null for commands without data.",
    "parameters": "Connections and biases of the final network. Null where there is no one network.",
    "connections": "Connections of the final network; of feature maps taps. Null where there is no one network.",
    "bytes": "Bytes of the smallest exported form of the final network in float32. Null where there is no one "
    "network.",
    "macs": "Multiply-adds of one image through the final network. Null where there is no one network.",
    "steps": "Optimizer steps along the winning line. Null where there is no one network.",
    "steps_all": "Optimizer steps of everything: forks, controls and screening included. Null where they are not "
    "counted.",
    "parameter_steps": "The parameter count summed over the steps of the winning line. Null where there is no one "
    "network.",
    "parameter_steps_all": "The parameter count summed over the steps of everything. Null where they are not counted.",
    "accuracy": "Share of validation images that the network of now, or the final one, gets right, from 0 to 1. Null "
    "where there is no one network.",
    "test_accuracy": "Share of test images that the final network gets right, from 0 to 1; read once, at the end. "
    "Null before, and where there is no one network.",
    "test_loss": "Mean cross-entropy of the final network on test data, in nats. Null as test_accuracy is.",
    "test_balanced_accuracy": "Share of right answers on test data, averaged over the classes, from 0 to 1. Null as "
    "test_accuracy is.",
    "dense_accuracy": "Validation accuracy of a dense network, from 0 to 1: of about as many parameters, trained for "
    "as many steps; of validate, of the same shape. Null where none was trained.",
    "dense_test_accuracy": "Test accuracy of the same dense network, from 0 to 1. Null where none was trained.",
    "rival_accuracy": "Validation accuracy of RigL with as many parameters for as many parameter-steps, from 0 to 1. "
    "Null where none was trained or it failed.",
    "rival_test_accuracy": "Test accuracy of the same rival, from 0 to 1. Null where none was trained or it failed.",
    "snapshot": "Where the snapshot of the final network lies, without an ending. Null where none was written.",
}

_NETWORKS = {
    "trial": "The block or task that trained it; empty for a plain run.",
    "density": "Share of the possible connections that was asked for. Null where none was.",
    "density_real": "Connections that exist divided by those possible. Null for networks that are not sparse ones of "
    "ours, and for those that failed.",
    "parameters_dense": "Parameters of the same shape, fully connected. Null where it has no meaning, as for heads.",
    "epochs": "Epochs of training that it had.",
    "train_loss": "Mean cross-entropy of the training batches of its last epoch, in nats. Null for one that failed.",
    "loss": "Mean cross-entropy on validation data, in nats. Null for one that failed.",
    "accuracy": "Share of validation images whose answer is right, from 0 to 1. Null for one that failed.",
    "saturated": "Hidden units that are saturated on training images. Null where they were not diagnosed.",
    "dead": "Hidden units that are dead on training images. Null where they were not diagnosed.",
    "hidden_units": "Units that are neither input nor output. Null for networks that are no groups of units.",
    "patchability": "Share of the hidden units that are saturated or dead, times the error. Null without hidden "
    "units, for a network that is less than 0.1 above chance, and where units were not diagnosed.",
    "efficiency": "Accuracy above chance, divided by the parameters. Null for one that failed.",
    "status": "finished, culled (dropped on the way) or failed.",
    "method": "How it was trained: a method of evolve, set or its control of topology, an arm of paths, a strategy "
    "of heads. Null for commands with one way.",
    "max_parameters": "Parameters that were asked for. Null for commands other than evolve.",
    "steps": "Optimizer steps that trained it. Null where they are not counted.",
    "steps_all": "Steps that were spent on it, those of scoring and trying out included. Null for commands other "
    "than heads.",
    "parameter_steps": "The parameter count summed over its steps. Null where they are not counted.",
    "epsilon": "A link has epsilon times the units at its two ends connections. Null for commands other than "
    "topology.",
    "zeta": "Share of the connections that an evolution moves. Null for commands other than topology.",
    "weight_decay": "Strength of the weight decay. Null for commands other than topology.",
    "decay": "How weights decay: decoupled, coupled (a part of the gradient) or bare (not times the learning rate). "
    "Null for commands other than topology.",
    "shrink_per_evolution": "Share of its value that a connection without a gradient loses between two evolutions. "
    "Null for commands other than topology.",
    **_RATIOS,
    "multiply_adds": "Multiply-adds of its whole training. Null for commands other than evolve.",
    "chosen_epoch": "The epoch that is best on validation data. Null for commands other than evolve.",
    "chosen_test_accuracy": "Test accuracy after that epoch, from 0 to 1. Null for commands other than evolve.",
    "best_test_accuracy": "The best test accuracy of any epoch, from 0 to 1, as some papers report it; nothing is "
    "chosen by it. Null for commands other than evolve.",
    "variant": "How paths lie between slots. Null for commands other than paths.",
    "removal": "The rule by which paths go. Null where none do.",
    "growth": "The rule by which paths come. Null where none do.",
    "frequency": "Steps between two changes of the paths. Null where there are none.",
    "parameters_backbone": "Parameters that belong to no path. Null for networks without paths.",
    "level": "Share of all heads that is to go, from 0 to 1. Null for commands other than heads.",
    "heads": "Attention heads that are left. Null for commands other than heads.",
    "heads_removed": "Heads that were removed from each layer. Null for commands other than heads.",
    "baseline_loss": "Loss on validation data before heads were removed, in nats. Null for commands other than heads.",
    "pruned_loss": "Loss on validation data right after the last removal, in nats. Null where none was removed.",
    "recovery": "Share of the loss that removal added which training on took away again. Null where it added none.",
    "stabilised_at": "Steps of warming up before heads were removed. Null for commands other than heads.",
    "stabilised_by": "Why the warming up ended: by what the loss had settled, or limit. Null for commands other than "
    "heads.",
}

_EPOCHS = {
    "epoch": "Number of the epoch, from 1; of heads the number of the look at validation data.",
    "parameters": "Parameters of the network in this epoch.",
    "learning_rate": "Learning rate of the last step.",
    "train_loss": "Mean cross-entropy of the training batches, in nats. Null for a network that diverged.",
    "loss": "Mean cross-entropy on validation data after the epoch, in nats. Null for a network that diverged.",
    "accuracy": "Share of validation images whose answer is right after it, from 0 to 1. Null for one that diverged.",
    "seconds": "Time the epoch took, by the clock: of networks that train together the share of each. Null for heads.",
    "test_loss": "Mean cross-entropy on test data, in nats; nothing is chosen by it. Null for commands other than "
    "evolve and topology.",
    "test_accuracy": "Share of test images whose answer is right, from 0 to 1; nothing is chosen by it. Null as "
    "test_loss is.",
    "connections": "Connections of each link. Null for commands other than topology.",
    "moved": "Connections of each link that moved in this epoch; of paths one number, the paths that went. Null for "
    "other commands.",
    "trend": "Mean connections of a pixel in the central squares of the image, the smallest first. Null for commands "
    "other than topology.",
    **_RATIOS,
    "phase": "warm_up or fine_tuning, of heads. Null for other commands.",
}

_CANDIDATES = {
    "round": "Number of the round.",
    "heat": "Number of the heat, from 1; the audit of a round is the heat after its last.",
    "candidate": "Number of the fork within its round; 0 is the control train.",
    "action": "The growth action, such as patch or widen; train and rewire are the controls, patch:random is the "
    "twin of the best patch at random places. Where shapes compete wide, narrow or usual; of heads which were "
    "removed.",
    "control": "Whether it is a control: it adds nothing, runs in every heat and never wins.",
    "parameters_before": "Parameters of the network that was forked.",
    "parameters_added": "Parameters that it adds; below 0 for an action that frees some.",
    "connections_moved": "Connections that it moves. Null for heads.",
    "predicted_gain": "What its gradient says that one step gains, in bits, before it is trained. Null for the "
    "control train, and for heads.",
    "information_before": "Information of the network that was forked, in bits. Null for heads.",
    "information": "Information of the fork after the heat, in bits, by the estimator of the settings. Null where it "
    "failed or was not run.",
    "gain": "Information above that of the better control of the heat, in bits, on the images that choose. Null for "
    "what was not compared.",
    "gain_se": "Standard error of the gain, from the differences image by image, in bits. Null as gain is.",
    "score": "Gain per thousand parameters added, in bits, where fewer than score_floor count as so many; of what "
    "only frees parameters, per thousand freed. Null as gain is.",
    "surplus": "Lower bound of the gain less the price of what it adds, in bits. Null as gain is.",
    "information_probe": "Information by a probe on the units that feed the output, in bits. Null unless probes were "
    "asked for.",
    "gain_probe": "The gain by the same probe, in bits. Null unless probes were asked for.",
    "gain_probe_se": "Standard error of gain_probe, in bits. Null unless probes were asked for.",
    "accuracy": "Share of validation images that the fork gets right after the heat, from 0 to 1. Null where it "
    "failed or was not run.",
    "loss": "Mean cross-entropy of the fork on validation data, in nats. Null where it failed or was not run.",
    "affordable": "Whether the credits covered it.",
    "eligible": "Whether it had proven itself in the last heat and could win.",
    "survived": "Whether it went on after the heat; controls and the twin stay to the last.",
    "won": "Whether it became the network; never a control.",
    "steps": "Optimizer steps that it has been trained for since the fork.",
    "worker": "The worker that trained it. Null where it was not run, and for heads.",
    "seconds": "Time its training took, by the clock. Null where it was not run.",
    "status": "finished, failed or unaffordable.",
    "maturity": "Bits per thousand parameters that its lead is expected to rise by later, as audits have found, and "
    "by which it was ranked. Null where it was not ranked so.",
    "estimator": "How its likelihoods were made for the gain: decoder, tempered (at a fitted temperature) or probe. "
    "Null where it was not compared.",
    "audit": "Whether the row is of an audit: forks trained longer to see what heats undervalue.",
}

_ROUNDS = {
    "round": "Number of the round; 0 is the seed.",
    "action": "The action that was adopted. Null where none was.",
    "site": "Where in the network it was adopted, in words. Null where nothing was.",
    "gain": "Information of the winner above that of the better control, in bits, on the images that judge. Null "
    "without a winner.",
    "gain_se": "Standard error of the gain, in bits. Null without a winner.",
    "score": "Gain per thousand parameters added, in bits, as in candidates. Null without a winner.",
    "credits_earned": "Credits that correct predictions brought since the round before.",
    "credits_spent": "Credits that were paid for parameters and for what was tried.",
    "credits_deciding": "The part of credits_spent that was for what was tried.",
    "credits_refunded": "Credits that freed parameters brought back.",
    "balance": "Credits after the round: those before, with what was earned and refunded, less what was spent.",
    "candidates": "Forks, controls and twin that entered the round; 0 where nothing competed.",
    "forks_afforded": "Forks that the credits covered, of those wanted. Null where no growths compete.",
    "seconds": "Time of work since the run began, over all resumes.",
    "decision": "opened (round 0), adopted, nothing_significant, unaffordable, final (a final phase ended) or "
    "stopped.",
    "price": "Bits per thousand parameters that growth has to bring.",
    "triggered_by": "What ended the training before the round: the trigger, clock where it did not fire, or end. "
    "Null where nothing was waited for.",
    "share_deciding": "Of all parameter-steps so far, the share that was not along the winning line, from 0 to 1.",
    "link_sources": "Number of the group that each link starts at; the input is 0. Null in rows of before links were "
    "written.",
    "link_targets": "Number of the group that each link ends at, in the same order. Null as link_sources is.",
    "link_connections": "Connections of each link, of feature maps taps, in the same order. Null as link_sources is.",
    "link_possible": "Connections that each link would have in the dense network, in the same order. Null as "
    "link_sources is.",
    "input_reads": "How often each number of an input is read, in the order of the flattened input as the network of "
    "the round takes it: connections that start there, a tap once for every position at which it reads it. Null as "
    "link_sources is.",
    "group_saturated": "Saturated units of each group, on 2048 training images or all of fewer, of feature maps on a "
    "quarter of these; 0 for input and output. Null as link_sources is.",
    "group_dead": "Dead units of each group, on the same images. Null as link_sources is.",
}

_FRONTS = {
    "round": "Number of the round that reached it.",
    "size": "Parameters that were aimed at.",
    "found": "What is compared with the target on validation data: its figure, or the bound of it. 0 without a "
    "target.",
    "error": "The error in that figure as a share of what the target allows; up to 1 it holds. 0 without a target.",
    "holds": "Whether the target holds.",
    "chosen": "Whether it is the network that the run ends with.",
    "steps": "Optimizer steps of the final phase that led to it.",
    "parameter_steps": "The parameter count summed over those steps.",
    "parameter_steps_all": "The parameter count summed over the steps of everything so far.",
}

_MISTAKES = {
    "image": "Which validation image, from 0.",
    "confidence": "Softmax of the class that the network said, from 0 to 1.",
    "values": "The numbers of the image, flattened: of pictures channel by channel from 0 to 1, of other data as the "
    "network takes them. Null for more than 3,072 numbers.",
    "shape": "Shape of the image: channels, height and width; of other data the number of values.",
}

_CONNECTIVITY = {
    "epoch": "Number of the epoch, from 1.",
    "link": "The link that it is counted in, as source→target in numbers of groups.",
    "unit": "Number of the input, from 0; of images a pixel.",
    "connections": "Connections of the link that start there.",
    "core_connections": "Those of them that an evolution leaves in place.",
}

_DECISIONS = {
    "step": "Optimizer steps before it.",
    "layer": "Of heads the layer, from 0; of paths the slot that it ends at.",
    "index": "Of heads the number in its layer, from 0; of paths the slot that it starts at.",
    "method": "The rule or the strategy that decided.",
    "value": "What the rule went by, such as its score. Null where it went by nothing, as at random.",
    "removed": "Whether it was removed.",
    "regrown": "Whether it came, or came back.",
    "loss": "Loss on validation data before the change, in nats. Null for what was not removed.",
    "loss_without": "Loss on validation data without it, in nats; of heads, without all that went in this step. Null "
    "for what was not removed.",
    "accuracy": "Validation accuracy before the change, from 0 to 1. Null for what was not removed.",
    "accuracy_without": "Validation accuracy without it, from 0 to 1, as loss_without. Null for what was not removed.",
}

_HEAD_SCORES = {
    "layer": "The layer, from 0.",
    "index": "The number of the head in its layer, from 0.",
    "gradient": "Mean norm of its slice of the gradient of the output projection, over training batches.",
    "entropy": "Entropy of what its queries look at, as a share of the largest that there can be, from 0 to 1.",
    "saliency": "Mean over examples of the absolute product of its gate and the gradient of that.",
}

_MEASUREMENTS = {
    "trial": "The task that measured it.",
    "quantity": "What was measured.",
    "item": "Which of many of its kind, such as a candidate or an epoch; 0 for a single one.",
    "arm": "The arm of the study.",
    "value": "The number, in the unit of the quantity.",
}

_BENCHMARKS = {
    "benchmark": "What was compared.",
    "case": "The size or the setting of the comparison.",
    "ours_seconds": "Seconds of what is measured.",
    "theirs": "What it is compared with.",
    "theirs_seconds": "Seconds of what it is compared with.",
    "ratio": "theirs_seconds divided by ours_seconds where two ways to do the same are compared, the median over "
    "pairs; ours_seconds divided by theirs_seconds where ours is a part of theirs, or cannot be below it.",
    "repeats": "How often it was measured.",
    "machine": "What it was measured on, as JSON.",
}

# Columns whose text is that of their table alone.
OWN: dict[str, dict[str, str]] = {
    "experiments": _EXPERIMENTS,
    "networks": _NETWORKS,
    "epochs": _EPOCHS,
    "candidates": _CANDIDATES,
    "rounds": _ROUNDS,
    "fronts": _FRONTS,
    "confusions": {"images": "Validation images for which that was the answer."},
    "mistakes": _MISTAKES,
    "connectivity": _CONNECTIVITY,
    "decisions": _DECISIONS,
    "head_scores": _HEAD_SCORES,
    "measurements": _MEASUREMENTS,
    "benchmarks": _BENCHMARKS,
}
