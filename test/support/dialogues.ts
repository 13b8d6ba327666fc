/** Dialogues of our own writing. */
export const dialogues = [
  '#Person1#: Shall we meet at five?\n#Person2#: Six is better, I have a call until then.\n#Person1#: Six it is. See you at the cafe.',
  '#Person1#: The printer is out of paper again.\n#Person2#: I will bring a new box from the store room. How many pages do you need?\n#Person1#: About two hundred, the report is long.',
  '#Person1#: My daughter has had a cough for three days.\n#Person2#: Does she have a fever?\n#Person1#: A little in the evening.\n#Person2#: Come by at four, the doctor will look at her.',
] as const;

export const [firstDialogue, secondDialogue, thirdDialogue] = dialogues;
