package steering

// FirstTable is the first of the owned routing tables; LastResortTable is the last.
const FirstTable = emptyTable

// IsOwned reports whether a routing table is owned, and so every route in it and rule that looks it up.
func IsOwned(table uint32) bool { return isOwned(table) }

// ComesBefore reports whether a foreign rule of this priority is where ours normally stand, or before: ours go before it.
func ComesBefore(priority uint32) bool { return Rule{Priority: priority}.inFront() }

// StaysBefore reports whether a foreign rule of this priority comes first whatever we do.
func StaysBefore(priority uint32) bool { return 0 < priority && priority <= foremost }
