/** What the reviewer says of a draft. */
interface Review {
  isGood: boolean
  /** Characters too many. */
  tooMany: number
}

/** The text as it came, then shorter by a word or two, as the review before it asked for. */
export function draft({ text, last, remark }: { text: string; last: string | null; remark: Review | null }): string {
  if (last === null || remark === null) return text
  const words = last.split(' ')
  return words.slice(0, remark.tooMany > 12 ? -2 : -1).join(' ') || text
}

export function review({ text, most }: { text: string; most: number }): Review {
  return { isGood: text.length <= most, tooMany: Math.max(0, text.length - most) }
}
