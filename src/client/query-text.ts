/** A query with its question mark; members that are undefined are left out. */
export function queryText(members: Record<string, string | number | string[] | undefined>): string {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(members)) {
    if (value === undefined) continue
    for (const one of Array.isArray(value) ? value : [String(value)]) query.append(name, one)
  }
  const text = query.toString()
  return text === '' ? '' : `?${text}`
}
