/** Links of Markdown pages, and the anchors that they may lead to. */

export interface Link {
  line: number
  /** As it is written. */
  target: string
}

/** The text without what stands in code, line by line the same. */
function prose(markdown: string): string {
  let isCode = false
  return markdown
    .split('\n')
    .map((line) => {
      const isFence = /^\s*(```|~~~)/.test(line)
      if (isFence) isCode = !isCode
      return isCode || isFence ? '' : line.replaceAll(/`[^`]*`/g, (text) => '`'.padEnd(text.length, '`'))
    })
    .join('\n')
}

/** Relative links and anchors; addresses elsewhere are not looked at. */
export function linksOf(markdown: string): Link[] {
  return prose(markdown)
    .split('\n')
    .flatMap((text, i) =>
      [...text.matchAll(/\]\(([^()\s]+)\)|<(?:a|img)[^>]* (?:href|src|srcset)="([^"]+)"|^\[[^\]]+\]: (\S+)$/g)].map(
        ([, a, b, c]) => ({
          line: i + 1,
          target: a ?? b ?? c ?? '',
        }),
      ),
    )
    .filter(({ target }) => !/^[a-z][a-z+.-]*:/i.test(target))
}

/** Anchors as GitHub makes them from headings, and those that are written down. */
export function anchorsOf(markdown: string): Set<string> {
  const anchors = new Set<string>()
  const seen = new Map<string, number>()
  let isCode = false
  for (const line of markdown.split('\n')) {
    if (/^\s*(```|~~~)/.test(line)) isCode = !isCode
    if (isCode) continue
    for (const [, id] of line.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(id ?? '')
    const heading = /^#{1,6} +(.+?) *#*$/.exec(line)?.[1]
    if (heading === undefined) continue
    const slug = heading
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, '')
      .replaceAll(' ', '-')
    const count = seen.get(slug) ?? 0
    seen.set(slug, count + 1)
    anchors.add(count === 0 ? slug : `${slug}-${count}`)
  }
  return anchors
}
