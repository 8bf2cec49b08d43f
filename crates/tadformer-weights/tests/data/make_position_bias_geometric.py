"""Writes position_bias_geometric.json: a bias table for windows of 7 as timm makes it for other windows.

    pip install torch==2.14.0 timm==1.0.31
    python make_position_bias_geometric.py
"""

import json
import math

import timm
import torch
from timm.layers import resize_rel_pos_bias_table

HEADS = 2


def main():
    side = 13
    # Neither even nor odd along either axis, and not a product of the two.
    values = [
        round(math.sin(0.7 * row + 0.3 * head) + math.cos(0.4 * column) + 0.05 * row * column - 0.2 * column, 4)
        for row in range(side)
        for column in range(side)
        for head in range(HEADS)
    ]
    table = torch.tensor(values).reshape(side * side, HEADS)
    out = {}
    for window in (9, 5, 1):
        rows = (2 * window - 1) ** 2
        resized = resize_rel_pos_bias_table(table, (window, window), (rows, HEADS))
        out[str(window)] = [round(float(x), 5) for x in resized.flatten()]
    with open("position_bias_geometric.json", "w") as file:
        json.dump({"timm": timm.__version__, "in": values, "out": out}, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
