"""What both sides of discovery say and when, without sockets or clocks.

A *path* is a network that this machine is on, in one family of addresses: broadcasts go out on each of them.
A *source* is who has sent a datagram, and on which path. To *shout* is to send to everybody on all paths, to
*whisper* is to send to one source.

    client                                    node
      | -- ask (shout, again and again) -------> |   on the node port
      | <------------- answer (whisper) -------- |   to where the ask came from
      | <------------- announcement (shout) ---- |   on the client port, when it starts
      | -- ask (whisper) ----------------------> |
      | <------------- answer ------------------ |
      | <------------- farewell (shout) -------- |   when it ends

Only an answer to a question of our own makes a node known: each question has a random number that the answer
repeats, so that nothing which was recorded earlier is believed, and no clocks are compared.
"""
