/** How a currency is named: as ISO 4217 does. */
export const CURRENCY = /^[A-Z]{3}$/
