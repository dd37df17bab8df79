"""What is said in the labelled set of turns: texts for tuning and texts for reporting, which share no sentence.

A bar marks where somebody may pause to think; what stands before it is not complete.
"""

from __future__ import annotations

__all__ = ["DIGITS", "HESITATIONS", "LISTS", "SENTENCES", "SHORT"]

SENTENCES = {
    "tuning": (
        "What is | in this picture?",
        "Can you tell me | what time it is?",
        "Where did I leave | my glasses?",
        "How many people | are standing there?",
        "Please turn off | the lights in the kitchen.",
        "I would like the | small one on the left.",
        "Is there a way to | open this window?",
        "Who wrote the | book on the table?",
        "What colour is the | big square?",
        "Could you read me the | last line again?",
        "When does the | next train leave?",
        "I think it was | a dog or a fox.",
        "Why is the | red lamp blinking?",
        "Do you know if the | shop is open today?",
        "Tell me about the | history of this town.",
        "How do I get to the | station from here?",
        "Remind me to | call my mother at six.",
        "Which of these | would you buy?",
        "Is that a | circle or a triangle?",
        "My brother said that | he would come later.",
        "What happens when I | press this button?",
        "Play the song that | we heard yesterday.",
        "How much is seven | plus eight?",
        "Put the cup | next to the plate.",
        "Are there any | apples left in the basket?",
        "I want to know | how far it is to the sea.",
        "Does this bus | go to the airport?",
        "Show me the | pictures of last summer.",
        "Was that | the door bell?",
        "Translate good morning | into French.",
    ),
    "reporting": (
        "What do you | see on the table?",
        "Can you find | my keys for me?",
        "Where is the | nearest exit?",
        "How many chairs | are in this room?",
        "Please close the | door behind you.",
        "I need the | green one with the handle.",
        "Is it possible to | change the colour?",
        "Who is the | man in the photograph?",
        "What shape is the | thing in the corner?",
        "Could you explain the | second step once more?",
        "When will the | meeting be over?",
        "I believe it is | raining outside.",
        "Why does the | screen stay dark?",
        "Do you think that | this will fit in the box?",
        "Tell me something about | the ocean.",
        "How long does it | take to walk there?",
        "Wake me up | at half past seven.",
        "Which way | is the river?",
        "Is this a | leaf or a feather?",
        "My neighbour told me that | the road is closed.",
        "What would you do | if it were yours?",
        "Read the message that | came this morning.",
        "How much is nine | minus four?",
        "Move the chair | closer to the window.",
        "Have we got any | milk in the fridge?",
        "I would like to hear | what the weather will be.",
        "Can I take | this seat?",
        "Open the file | from last Tuesday.",
        "Did you | hear that noise?",
        "Spell the word | necessary for me.",
    ),
}
SHORT = {
    "tuning": ("Yes.", "No.", "Stop.", "Okay.", "Never mind.", "Go on.", "Thank you.", "Why?"),
    "reporting": ("Yes please.", "No thanks.", "Stop it.", "All right.", "Wait.", "Say it again.", "Really?", "Hello."),
}
LISTS = {
    "tuning": ("Bread, | butter, | and two eggs.", "Red, | yellow, | or blue?", "Monday, | Tuesday, | and Friday."),
    "reporting": (
        "Apples, | pears, | and some cheese.",
        "Big, | small, | or tiny?",
        "The cat, | the dog, | and the horse.",
    ),
}
DIGITS = {
    "tuning": ("five three nine, | two two seven, | eight one.", "one four, | six six, | nine oh three."),
    "reporting": ("four one seven, | nine nine two, | six five.", "two eight, | three three, | one seven four."),
}
HESITATIONS = ("er", "um", "uh")
