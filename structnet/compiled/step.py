"""Training steps of several networks in lock step: batch, forward, cross-entropy, backward and update in one call."""

from __future__ import annotations

import math

import numpy as np

from structnet.compiled.arrays import BARE, COUPLED, DECOUPLED, Images, Moments, Noise, Rules, Workspace
from structnet.compiled.batch import fill_block
from structnet.compiled.compiler import compiled, part
from structnet.compiled.functions import exponential
from structnet.compiled.noise import dropped_units, nothing_dropped
from structnet.compiled.plan import CONNECTIONS, FIRST_PARAMETER, Plan
from structnet.compiled.products import backward, forward, member_plan, run_forward


@compiled
def train(
    plan: Plan,
    code: int,
    values: np.ndarray,
    moments: Moments,
    rules: Rules,
    images: Images,
    noise: Noise,
    order: np.ndarray,
    rates: np.ndarray,
    shares: np.ndarray,
    step: int,
    updates: int,
    work: Workspace,
    losses: np.ndarray,
    norms: np.ndarray,
) -> None:
    """Trains all members for len(order) steps, in place.

    code: of the activation. values: (parameters of all,). order: (steps, batch) int64 positions of the images of every
    step. rates: (steps,) learning rates, times shares, (members,). step: of the line, updates: made by the optimizer
    before. losses: (steps, members) is filled with the mean cross-entropy in nats, norms, if it has any, with the
    length of the gradient, both before L1.
    """
    width, batch = work.inputs.shape[1], order.shape[1]
    members = len(plan.members) - 1
    for now in range(len(order)):
        for member in range(members):
            losses[now, member] = losses.dtype.type(0)
        for begin in range(0, batch, width):
            count = min(width, batch - begin)
            labels = fill_block(images, noise, order[now], begin, count, step + now, work.inputs)
            dropped = dropped_units(noise, step + now, begin)
            for member in range(members):
                here = member_plan(plan, member)
                first = plan.members[member, FIRST_PARAMETER]
                last = plan.members[member + 1, FIRST_PARAMETER]
                # Of a single block each member is done with before the next: what it writes stays near.
                gradient = work.gradient[first:last] if batch > width else work.gradient[: last - first]
                if begin == 0:
                    clear(gradient)
                forward(here, values[first:last], work.inputs, work.state, work.matrix, code, dropped, count)
                output = here.groups[-2], here.groups[-1]
                losses[now, member] += cross_entropy(
                    work.state[output[0] : output[1]], work.error[output[0] : output[1]], labels, count, batch
                )
                backward(
                    here,
                    values[first:last],
                    work.inputs,
                    work.state,
                    work.error,
                    gradient,
                    work.matrix,
                    code,
                    dropped,
                    count,
                )
                if begin + count == batch:
                    if norms.size:
                        norms[now, member] = length_of(gradient)
                    update(
                        values[first:last],
                        gradient,
                        moments.first[first:last],
                        moments.second[first:last],
                        moments.born[first:last],
                        rules,
                        plan.members[member, CONNECTIONS],
                        rates[now] * shares[member],
                        rules.weight_decay[member],
                        step + now,
                        updates + now + 1,
                    )


@part
def cross_entropy(logits: np.ndarray, error: np.ndarray, labels: np.ndarray, count: int, batch: int) -> float:
    """The share of these images in the mean loss of a batch, in nats; error: filled with its derivative.

    logits, error: (classes, width). labels: (count,).
    """
    classes = len(logits)
    share = error.dtype.type(1.0 / batch)
    largest = np.empty(count, dtype=error.dtype)
    total = np.empty(count, dtype=error.dtype)
    _exponentials(logits, error, largest, total)
    loss = 0.0
    product = 1.0
    for image in range(count):
        # The logarithm of a product of some sums, each between 1 and the number of classes, is one instead of many.
        product *= total[image]
        if image % 16 == 15 or image == count - 1:
            loss += math.log(product)
            product = 1.0
        loss += largest[image] - logits[labels[image], image]
        total[image] = share / total[image]
    for label in range(classes):
        for image in range(count):
            error[label, image] *= total[image]
    for image in range(count):
        error[labels[image], image] -= share
    return loss / batch


@part
def _exponentials(logits: np.ndarray, error: np.ndarray, largest: np.ndarray, total: np.ndarray) -> None:
    """Of every logit less the largest of its image, into error, 0 behind the last image; and their sums, (count,)."""
    count = len(total)
    for image in range(count):
        largest[image] = logits[0, image]
        total[image] = error.dtype.type(0)
    for label in range(1, len(logits)):
        for image in range(count):
            # Of numbers of which one is NaN either may be taken: their exponentials are NaN all the same.
            largest[image] = logits[label, image] if logits[label, image] > largest[image] else largest[image]
    for label in range(len(logits)):
        clear(error[label, count:])
        for image in range(count):
            grown = exponential(logits[label, image] - largest[image])
            error[label, image] = grown
            total[image] += grown


@part
def clear(array: np.ndarray) -> None:
    """Fills a vector with 0."""
    for place in range(len(array)):
        array[place] = array.dtype.type(0)


@part
def length_of(gradient: np.ndarray) -> float:
    """Its Euclidean norm."""
    total = 0.0
    for place in range(len(gradient)):
        total += gradient[place] * gradient[place]
    return math.sqrt(total)


@part
def update(
    values: np.ndarray,
    gradient: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    born: np.ndarray,
    rules: Rules,
    connections: int,
    rate: float,
    weight_decay: float,
    step: int,
    updates: int,
) -> None:
    """One step on a flat vector that begins with so many connections, in place; updates: with this one."""
    kind = values.dtype.type
    l1, zero = kind(rules.l1), kind(0)
    if rules.l1 > 0:
        for place in range(connections):
            value = values[place]
            gradient[place] += l1 if value > zero else (-l1 if value < zero else zero)
    if rules.momentum >= 0:
        descend(values, gradient, first, rules, connections, rate, weight_decay)
    else:
        kept = 1.0 - rate * weight_decay
        adapt(values, gradient, first, second, born, rules, connections, rate, kept, step, updates)


@part
def descend(
    values: np.ndarray,
    gradient: np.ndarray,
    velocity: np.ndarray,
    rules: Rules,
    connections: int,
    rate: float,
    weight_decay: float,
) -> None:
    """One step of gradient descent with momentum."""
    kind = values.dtype.type
    momentum, pace = kind(rules.momentum), kind(rate)
    coupled = kind(weight_decay if rules.decay == COUPLED else 0.0)
    shrinking = weight_decay * (1.0 if rules.decay == BARE else rate)
    kept = kind(1.0 - (0.0 if rules.decay == COUPLED else shrinking))
    decaying = connections if rules.decay == DECOUPLED else len(values)
    for place in range(len(values)):
        value = values[place]
        velocity[place] = momentum * velocity[place] + (gradient[place] + coupled * value)
        values[place] = (value * kept if place < decaying else value) - pace * velocity[place]


@part
def adapt(
    values: np.ndarray,
    gradient: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    born: np.ndarray,
    rules: Rules,
    connections: int,
    rate: float,
    share_kept: float,
    step: int,
    updates: int,
) -> None:
    """One step of Adam. share_kept: of its value, by a connection."""
    kind = values.dtype.type
    correction = math.sqrt(1 - rules.beta2**updates)
    pace = kind(rate * correction / (1 - rules.beta1**updates))
    little = kind(rules.epsilon * correction)
    keep1, keep2 = kind(1 - rules.beta1), kind(rules.beta2)
    add2 = kind(1 - rules.beta2)
    kept = kind(share_kept)
    zero, one = kind(0), kind(1)
    if len(rules.rise) == 0:
        if kept != one:
            for place in range(connections):
                values[place] *= kept
        for place in range(len(values)):
            g = gradient[place]
            first[place] += (g - first[place]) * keep1
            second[place] = second[place] * keep2 + g * g * add2
            values[place] -= pace * first[place] / (np.sqrt(second[place]) + little)
        return
    oldest = len(rules.rise) - 1
    for place in range(len(values)):
        g, before = gradient[place], values[place]
        first[place] += (g - first[place]) * keep1
        second[place] = second[place] * keep2 + g * g * add2
        moved = before * kept if place < connections else before
        moved -= pace * first[place] / (np.sqrt(second[place]) + little)
        factor = rules.rise[min(step - born[place], oldest)]
        if factor == one:
            values[place] = moved
        elif factor != zero:
            values[place] = before + factor * (moved - before)


@compiled
def judge(
    plan: Plan,
    code: int,
    values: np.ndarray,
    images: Images,
    work: Workspace,
    log2_likelihood: np.ndarray,
    right: np.ndarray,
    logits: np.ndarray,
) -> None:
    """Every member on every image, in their order.

    log2_likelihood: (members, images) float64 of the true labels, right: (members, images) booleans, and logits:
    (members, classes, images), if it has any, are filled.
    """
    width, total = work.inputs.shape[1], len(images.labels)
    order = np.arange(total)
    silence = Noise(np.zeros(1, dtype=np.uint64), 0.0, 0.0, 0, False)
    for begin in range(0, total, width):
        count = min(width, total - begin)
        labels = fill_block(images, silence, order, begin, count, 0, work.inputs)
        for member in range(len(plan.members) - 1):
            here = member_plan(plan, member)
            mine = values[plan.members[member, FIRST_PARAMETER] : plan.members[member + 1, FIRST_PARAMETER]]
            run_forward(here, mine, work.inputs, work.state, work.matrix, code, nothing_dropped(), count)
            output = work.state[here.groups[-2] : here.groups[-1]]
            likelihoods(output, labels, count, log2_likelihood[member, begin:], right[member, begin:])
            if logits.shape[2]:
                for label in range(len(output)):
                    for image in range(count):
                        logits[member, label, begin + image] = output[label, image]


@part
def likelihoods(
    logits: np.ndarray, labels: np.ndarray, count: int, log2_likelihood: np.ndarray, right: np.ndarray
) -> None:
    """Fills log2 p(label | image), in 64 bits, and whether the answer is right, (count,) each.

    logits: (classes, width).

    The largest logit is the answer, of several the first, and NaN is larger than any number.
    """
    largest, total, answer = np.empty(count), np.empty(count), np.empty(count, dtype=np.int64)
    for image in range(count):
        largest[image], total[image], answer[image] = logits[0, image], 0.0, 0
    for label in range(1, len(logits)):
        for image in range(count):
            is_larger = not (logits[label, image] <= largest[image]) and largest[image] == largest[image]
            largest[image] = logits[label, image] if is_larger else largest[image]
            answer[image] = label if is_larger else answer[image]
    for label in range(len(logits)):
        for image in range(count):
            total[image] += exponential(np.float64(logits[label, image]) - largest[image])
    for image in range(count):
        of_label = np.float64(logits[labels[image], image]) - largest[image]
        log2_likelihood[image] = (of_label - math.log(total[image])) / math.log(2.0)
        right[image] = answer[image] == labels[image]
