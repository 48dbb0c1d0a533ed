/** Command lines of `orrery` that a Markdown page shows: in fenced blocks and in inline code. */

export interface ShownCommand {
  line: number
  text: string
}

export function shownCommands(markdown: string): ShownCommand[] {
  let fence: string | null = null
  return markdown.split('\n').flatMap((text, i) => {
    const opened = /^\s*(?:`{3,}|~{3,})(\w*)/.exec(text)
    if (opened) {
      fence = fence === null ? (opened[1] ?? '') : null
      return []
    }
    const line = i + 1
    if (fence !== null) {
      // What a program prints is not what somebody types.
      if (!['', 'sh', 'bash', 'console'].includes(fence)) return []
      const typed = /(?:^|[;&|(]\s*|\$\()(?:[A-Z_]+=\S+ )*\s*(?:\$ )?(orrery [a-z].*)$/.exec(text.trim())?.[1]
      return typed === undefined ? [] : [{ line, text: typed }]
    }
    return [...text.matchAll(/`(orrery [^`]+)`/g)].map(([, typed]) => ({ line, text: typed ?? '' }))
  })
}
